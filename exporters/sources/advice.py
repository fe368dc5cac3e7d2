"""Advice on saving a model so that it can be exported, shared by the errors of several loaders."""

# The whole recipe with a batch axis: without dynamic_shapes, the program takes the example's batch only.
SAVE_AS_PROGRAM = (
    'Save it again with: batch = torch.export.Dim("batch"); torch.export.save(torch.export.export('
    'model.eval(), (example,), dynamic_shapes=({0: batch},)), "model.pt2"), where example is an input with a '
    "batch of 2, and upload model.pt2."
)
