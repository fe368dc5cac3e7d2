"""Options, output and tables that the commands share."""
