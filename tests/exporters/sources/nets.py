"""Networks of a package that an operator allows."""

import os

import torch
from torch import nn

SYSTEM = os.system


class Tagger(nn.Module):
    """int64[batch, length] → float32[batch, length, 4]."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.lstm = nn.LSTM(6, hidden, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * hidden, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embed(tokens))[0])


class Summary(nn.Module):
    """float32[batch, length, 3] → float32[batch, length, 5] and float32[1, batch, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.gru(x)


class Scale(nn.Module):
    """float32[batch, 4] → float32[batch, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)
