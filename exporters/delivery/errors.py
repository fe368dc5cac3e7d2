"""The error of a delivery."""


class DeliveryError(Exception):
    """A package cannot be delivered in this form. The message is for the user."""
