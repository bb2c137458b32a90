"""What everything else speaks of: who starts, tags, machines, budgets. Pure."""
