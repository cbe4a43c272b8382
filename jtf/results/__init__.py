"""What a finished run says: metrics, verdict, and the directory it leaves behind. No JAX."""
