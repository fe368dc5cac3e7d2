"""What both sides are asked, whether they agree, and what is kept of it."""
