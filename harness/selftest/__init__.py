"""The kill score: which planted faults these checks find, and how often they accuse what is right."""
