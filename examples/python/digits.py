"""Handwritten digits for the examples: 1,797 images of 8 x 8, and a small convolutional network for them."""

import csv
import pathlib

import torch

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "optdigits.csv"
TRAINING = 1500  # the rest is for the test


def load():
    """Images (count x 1 x 8 x 8, from 0 to 1) and labels, for training and for the test, in a fixed random order."""
    with open(DATA, newline="") as file:
        rows = torch.tensor([[float(cell) for cell in row] for row in csv.reader(file)])
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))]
    images, labels = rows[:, :64].reshape(-1, 1, 8, 8) / 16, rows[:, 64].long()
    return (images[:TRAINING], labels[:TRAINING]), (images[TRAINING:], labels[TRAINING:])


def network():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(32 * 4 * 4, 10),
    )


def batches(epoch, batch):
    """Indices of the training images in batches, in another order in each epoch, the same on all ranks."""
    order = torch.randperm(TRAINING, generator=torch.Generator().manual_seed(100 + epoch))
    return order.split(batch)


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()
