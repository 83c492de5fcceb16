"""``bothways finetune TASK``: a file a task, each with the options that are its own."""
