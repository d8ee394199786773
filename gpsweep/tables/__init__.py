"""The tables of the paper, each with its own numbers beside ours."""
