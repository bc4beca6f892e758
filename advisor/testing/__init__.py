"""What tests and demonstrations need: real small models without a download."""
