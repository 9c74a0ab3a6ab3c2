"""What comes back: results, and how they are shown in notebooks and terminals."""
