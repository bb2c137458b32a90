"""What machines cost: bills that are split, the ledger of a month, budgets, and how they are shown."""
