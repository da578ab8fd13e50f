"""Results of others: records are checked, repeated, and brought into the form of a pull request."""
