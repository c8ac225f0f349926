"""What steps share that add rows made of others: draws, what may be said differently, and what came of it."""
