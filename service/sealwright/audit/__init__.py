"""The audit: a durable record of every decision, before what was decided takes effect."""
