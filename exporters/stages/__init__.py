"""The stages of one export, in their order: prepare the source, convert and compare, optimise, write."""
