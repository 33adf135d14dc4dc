"""Learning families of tasks: collecting by task, adapting to tasks of evaluation, what is known of the latent."""
