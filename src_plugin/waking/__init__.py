"""What training shows, kept until the night."""
