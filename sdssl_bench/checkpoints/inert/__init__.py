"""The inert reader: what files of torch, numpy and torch.distributed hold, and no code of theirs runs."""
