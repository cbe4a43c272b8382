"""Markets whose best policy is known, the dynamic programme that finds it, and the checks that learning reaches it."""
