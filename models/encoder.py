"""The causal Transformer over events: attention, a moving average beside it, and the blocks made of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from models.dropout import Dropout

Tensor = Any

#: Channels that share one decay of the moving average.
TREND_CHANNELS = 8


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Size and regularisation of the Transformer.

    Attributes:
        width, layers, heads: of the encoder; ``feed`` times the width is the hidden layer of its feed-forward parts.
        dropout: of the inputs and of every residual branch.
        trend: share of the moving average in each block's mixing of events, 0 to 1; attention has the rest.
    """

    width: int = 32
    layers: int = 1
    heads: int = 2
    feed: int = 4
    dropout: float = 0.2
    trend: float = 0.6


class Attention(keras.layers.Layer):  # type: ignore[misc]
    """Multi-head attention with a learned bias for each head and distance, and one empty slot to fall back on."""

    def __init__(self, width: int, heads: int, length: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads, self.size = heads, width // heads
        self.q, self.kv, self.out = (keras.layers.Dense(n, dtype=self.dtype_policy) for n in (width, 2 * width, width))
        self.distance = self.add_weight(name="distance", shape=(length + 1, heads), initializer="zeros")
        self.empty = self.add_weight(
            name="empty", shape=(2, 1, 1, width), initializer=keras.initializers.RandomNormal(stddev=0.02)
        )

    def call(self, queries: Tensor, keys: Tensor, distance: Tensor, visible: Tensor) -> Tensor:
        """queries [B, D, W], keys [B, L, W], distance int32 and visible bool [B or 1, D, L] -> [B, D, W]."""
        batch = tf.shape(keys)[0]
        k, v = tf.split(self.kv(keys), 2, axis=-1)
        k, v = (tf.concat([tf.tile(self.empty[i], [batch, 1, 1]), x], axis=1) for i, x in enumerate((k, v)))
        q, k, v = (self._split(x) for x in (self.q(queries), k, v))  # [B, H, D | L + 1, size]
        logits = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32) * self.size**-0.5  # [B, H, D, L + 1]
        bias = tf.cast(tf.gather(self.distance, tf.maximum(distance, 0)), tf.float32)
        bias = tf.transpose(bias, [0, 3, 1, 2])  # [B | 1, H, D, L]
        bias = tf.where(visible[:, None], bias, -1e9)
        logits += tf.pad(bias, [[0, 0], [0, 0], [0, 0], [1, 0]])
        weights = tf.cast(tf.nn.softmax(logits), v.dtype)
        mixed = tf.transpose(tf.matmul(weights, v), [0, 2, 1, 3])  # [B, D, H, size]
        return self.out(tf.reshape(mixed, [batch, -1, self.heads * self.size]))

    def _split(self, x: Tensor) -> Tensor:
        return tf.transpose(tf.reshape(x, [tf.shape(x)[0], -1, self.heads, self.size]), [0, 2, 1, 3])


class Trend(keras.layers.Layer):  # type: ignore[misc]
    """The moving average of the past, and how much of what differs from it to add.

    BSARec (Shin et al. 2024) splits a sequence into low and high frequencies by a Fourier transform, which sees the
    future; an exponential moving average with learned decays is the causal filter of the same kind: smooth taste
    weighs more than attention alone gives it, which matters most where histories are short.
    """

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.groups = max(width // TREND_CHANNELS, 1)
        self.decay = self.add_weight(name="decay", shape=(self.groups,), initializer="zeros")
        self.sharpness = self.add_weight(name="sharpness", shape=(width,), initializer="ones")

    def call(self, x: Tensor, distance: Tensor, valid: Tensor) -> Tensor:
        """x [B, L, W], distance int32 [1, L, L] (negative in the future), valid float [B, L] -> [B, L, W]."""
        batch, length, width = tf.shape(x)[0], tf.shape(x)[1], x.shape[-1]
        far = tf.cast(tf.maximum(distance[0], 0), tf.float32)
        kernel = tf.exp(far * tf.cast(tf.math.log_sigmoid(self.decay), tf.float32)[:, None, None])  # [G, L, L]
        kernel = tf.cast(tf.where(distance >= 0, kernel, 0.0), x.dtype)
        parts = tf.reshape(x * valid[..., None], [batch, length, self.groups, width // self.groups])
        total = tf.einsum("gij,bjgs->bigs", kernel, parts)
        count = tf.einsum("gij,bj->big", kernel, valid)[..., None]
        low = tf.reshape(total / tf.maximum(count, 1e-3), [batch, length, width])
        return low + tf.square(self.sharpness) * (x - low)


class Block(keras.layers.Layer):  # type: ignore[misc]
    """One pre-norm Transformer layer (Xiong et al. 2020) whose mixing is part attention, part moving average."""

    def __init__(self, config: EncoderConfig, length: int, **options: Any) -> None:
        super().__init__(**options)
        own = {"dtype": self.dtype_policy}
        self.share = config.trend
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-6, **own) for _ in range(2)]
        self.attend = Attention(config.width, config.heads, length, **own)
        self.trend = Trend(config.width, **own) if config.trend else None
        self.feed = [
            keras.layers.Dense(config.feed * config.width, activation="gelu", **own),
            keras.layers.Dense(config.width, **own),
        ]
        self.drop = Dropout(config.dropout, **own)

    def call(self, x: Tensor, distance: Tensor, visible: Tensor, valid: Tensor, training: bool = False) -> Tensor:
        """x [B, L, W] -> [B, L, W]; ``visible`` bool [B, L, L] is causal, ``valid`` float [B, L] marks events."""
        y = self.norms[0](x)
        mixed = self.attend(y, y, distance, visible)
        if self.trend is not None:
            mixed = (1 - self.share) * mixed + self.share * self.trend(y, distance, valid)
        x += self.drop(mixed, training=training)
        return x + self.drop(self.feed[1](self.feed[0](self.norms[1](x))), training=training)


class Encoder(keras.layers.Layer):  # type: ignore[misc]
    """Blocks over event vectors. The heavy part of the model: it alone computes in mixed precision where that is on."""

    def __init__(self, config: EncoderConfig, length: int, precision: str = "float32") -> None:
        super().__init__()
        policy = keras.DTypePolicy(precision)
        self.blocks = [Block(config, length, dtype=policy) for _ in range(config.layers)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.drop = Dropout(config.dropout)

    def call(self, x: Tensor, valid: Tensor, training: bool = False) -> Tensor:
        """Event vectors [B, L, W], of which ``valid`` bool [B, L] are real, to states of their prefixes [B, L, W]."""
        slots = tf.range(tf.shape(x)[1])
        distance = (slots[:, None] - slots)[None]  # [1, L, L]
        visible = (distance >= 0) & valid[:, None, :]  # [B, L, L]
        real = tf.cast(valid, tf.float32)
        x = self.drop(x, training=training)
        for block in self.blocks:
            x = block(x, distance, visible, real, training=training)
        return self.norm(tf.cast(x, tf.float32))
