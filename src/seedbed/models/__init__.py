"""Models. A model is f(in_shape, num_outputs, …) → nn.Module that maps [B, *in_shape] to [B, num_outputs].

It raises ValueError, with a message for the user, for data that it does not take. A network may have these attributes,
by which other code finds what it needs:

- `fit(batches)` of the network: called once before training with the training set in its own order, as batches
  (x [B, *in_shape], y [B]).
- `resized` of the network: the shape [C, H, W] to which it resizes its input; it sizes the batches of evaluation.
- `branch` of a submodule: the residual branch, which `init=fixup` scales.
- `generator` and `latent` of a submodule: maps noise [B, latent] to pixels of 0–1; `module=gan` trains it against the
  rest of the network, its critic.
"""
