"""The environment behind other libraries' interfaces: Gymnasium and gymnax."""
