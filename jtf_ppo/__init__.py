"""jtf_ppo: the learner. Networks, advantage, loss, optimiser, checkpoints; it knows no market."""
