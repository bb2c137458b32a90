"""Who may spend money: what the event was, what follows from it, and the label that is used up."""
