"""What a watchdog looks at: jobs that wait, machines and registrations that nobody needs."""
