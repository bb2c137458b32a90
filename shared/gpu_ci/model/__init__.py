"""What everything else works with: who starts, tags, machines, budgets. Pure."""
