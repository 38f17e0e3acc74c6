"""The backend interface: what differs between Keras's backends in a data-parallel training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, NamedTuple, TypeVar

from keras_candle.engine.base import Engine

Device = TypeVar("Device")


class Shard(NamedTuple):
    """One rank's shard of a global batch.

    Attributes:
        rows: int32 scalar, how many rows of `data` belong to this rank. 0 when the global batch
            has fewer rows than there are ranks: then `data` only keeps the ranks in step and must
            have weight 0.
        total: int32 scalar, the rows of the global batch where it was divided; 0 where each rank
            has its own batch and does not know the rows of the other ranks.
        data: x, (x, y) or (x, y, sample_weight), as Keras's own data adapters yield them.
    """

    rows: Any
    total: Any
    data: Any


def own_device(devices: Sequence[Device], local_rank: int) -> list[Device]:
    """Return the device of the rank with this local rank; ranks share when there are too few.

    Example:
        >>> own_device(["gpu0", "gpu1"], 1), own_device(["gpu0"], 1), own_device([], 0)
        (['gpu1'], ['gpu0'], [])
    """
    return [devices[local_rank % len(devices)]] if devices else []


class Backend(ABC):
    """Tensors, steps and datasets of one of Keras's backends.

    Methods that exchange tensors are collectives: every rank must call them in the same order.
    Their `name` identifies the collective: the same on all ranks, unique in one step.

    A dataset is an object that is iterated once for each pass, has an `element_spec` (a structure
    of objects with shape and dtype, batch dimension first) and a `cardinality()` (negative when
    unknown or infinite).

    Attributes:
        name: Keras's name of the backend.
        jit_has_collectives: whether a step that is compiled as a whole can exchange tensors.
    """

    name: ClassVar[str]
    jit_has_collectives: ClassVar[bool]

    # Environment and devices.

    @abstractmethod
    def check(self, model: Any) -> None:
        """Refuse a model that the backend itself divides among devices.

        Raises:
            EngineError: with the remedy.
        """

    @abstractmethod
    def pin(self, engine: Engine) -> None:
        """Restrict this process to its rank's GPU, where ranks share a node.

        Raises:
            EngineError: when the GPUs are in use already.
        """

    @abstractmethod
    def gpu_capability(self) -> tuple[int, int] | None:
        """Return the compute capability of this rank's GPU; None without a GPU."""

    @abstractmethod
    def global_seed(self) -> int | None:
        """Return the seed from which Keras draws the order of the rows; None if none is set."""

    # Collectives on a step's tensors.

    @abstractmethod
    def sum_in_step(self, engine: Engine, tensors: Sequence[Any], *, name: str) -> list[Any]:
        """Sum each tensor over the ranks.

        Args:
            engine: connects the ranks.
            tensors: dense, of floating dtype; same number, shapes and dtypes on all ranks.
            name: of the collective.

        Returns:
            Tensors of the same shapes and dtypes.
        """

    @abstractmethod
    def sum_differentiably(self, engine: Engine, tensor: Any, part: Any, *, name: str) -> Any:
        """Sum a tensor over the ranks, with a gradient that the average over ranks leaves right.

        That average weighs each rank by its rows, so a gradient that comes from another rank's loss
        must carry that rank's weight: the gradient is sum(part * gradient) / part, 0 where part is.

        Args:
            engine: connects the ranks.
            tensor: dense, of floating dtype; same shape on all ranks.
            part: scalar, this rank's weight in the average.
            name: of the collective in the forward pass.
        """

    @abstractmethod
    def gather_rows(
        self, engine: Engine, tensors: Sequence[Any], rows: Any, *, name: str, interleave: bool
    ) -> list[Any]:
        """Concatenate the rows of all ranks; the gradient flows back to the own rows.

        A rank's gradient is multiplied by total / rows, so that the average over ranks, which
        weighs by rows, gives the gradient of the global batch.

        Args:
            engine: connects the ranks.
            tensors: shape (rows, ...); with one row more where `rows` is 0.
            rows: int32 scalar, this rank's rows; None: all rows of the tensors.
            name: of the collective.
            interleave: rank r has the rows r, r + N, ... of one batch, whose order the result has.
                Otherwise the rows are in the order of the ranks.
        """

    # Gradients.

    @abstractmethod
    def weigh(self, gradient: Any, weight: Any, *, may_be_empty: bool) -> Any:
        """Return a gradient as a dense tensor, times a scalar in its dtype.

        Args:
            gradient: dense or sparse.
            weight: float32 scalar.
            may_be_empty: whether a weight of 0 gives 0, even for a NaN.
        """

    @abstractmethod
    def is_sparse(self, gradient: Any) -> bool:
        """Whether a gradient consists of rows and their indices."""

    @abstractmethod
    def to_dense(self, gradient: Any) -> Any:
        """Return a sparse gradient as a dense tensor, in which the slices of a row are added up."""

    @abstractmethod
    def average_sparse(
        self,
        engine: Engine,
        gradients: Sequence[Any],
        part: Any,
        *,
        name: str,
        may_be_empty: bool,
        lookups: Sequence[Any],
        sum_slices: bool,
    ) -> list[Any]:
        """Average sparse gradients over the ranks.

        Args:
            engine: connects the ranks.
            gradients: for which `is_sparse` holds.
            part: float32 scalar, this rank's weight in the average.
            name: of the collective.
            may_be_empty: as in `weigh`.
            lookups: for each gradient what its indices are computed from, where `split_step` has
                found that; else None.
            sum_slices: whether the slices of one row are added up: before they are sent, and over
                the ranks. The gradients returned are dense.
        """

    @abstractmethod
    def weighing_row_losses(self, rows: Any, total: Any, data: Any) -> AbstractContextManager[None]:
        """Context of a traced step of the user's own that differentiates losses of each row.

        Differentiating a vector gives the gradient of its sum, which the average over ranks would
        turn into a mean: in this context it is multiplied by total / rows.

        Args:
            rows: int32 scalar, this rank's rows.
            total: int32 scalar, the rows of the global batch.
            data: this rank's rows themselves.
        """

    # Steps.

    @abstractmethod
    def eager(self) -> AbstractContextManager[None]:
        """Context in which operations run at once, also while a step is traced."""

    @abstractmethod
    def output_rank(self, function: Callable[..., Any], *like: Any) -> int | None:
        """Return the number of dimensions that a function returns; None when unknown.

        Args:
            function: from tensors to a tensor.
            *like: its arguments; only shapes, without the number of rows, and dtypes are used.
        """

    @abstractmethod
    def trace_step(self, step: Callable[[Any], Any], batch: Any) -> None:
        """Create the variables that a training step creates, without running it."""

    @abstractmethod
    def split_step(self, model: Any, context: Any) -> Callable[[Any], Any]:
        """Return Keras's own training step, in which only forward and backward pass are compiled.

        Args:
            model: a model without a training step of its own.
            context: the `StepContext`; its `in_xla` is set while the compiled part is traced, and
                `lookups` afterwards, by the ids of variables with sparse gradients.
        """

    @abstractmethod
    def checksums(self, variables: Sequence[Any]) -> Callable[[], Any]:
        """Return a function that computes one integer of each variable's bits, on its device."""

    # Data.

    @abstractmethod
    def rows_of(self, batch: Any) -> Any:
        """Return the number of rows of a batch, an int32 scalar."""

    @abstractmethod
    def own_shard(self, batch: Any) -> Shard:
        """Return a batch of this rank's own as a shard."""

    @abstractmethod
    def divide(self, batch: Any, engine: Engine) -> Shard:
        """Return the rank's rows r, r + N, r + 2N, ... of a batch.

        Raises:
            DataError: when the batch has no rows to take, such as a sparse tensor.
        """

    @abstractmethod
    def array_datasets(self, shard: Any, starts: Sequence[int]) -> list[Any]:
        """Return datasets of an `ArrayShard`, one for each number of rows to begin after.

        They yield what `ArrayShard.row_numbers` assigns to the rank: a `Shard`, or plain data where
        `ArrayShard.needs_no_counts`.

        Raises:
            DataError: for arrays that have no rows to take.
        """

    @abstractmethod
    def batches_of(self, adapter: Any) -> Any:
        """Return the dataset of one of Keras's own data adapters."""

    @abstractmethod
    def dataset_of_length(self, adapter: Any) -> Any:
        """Return `batches_of`, with the cardinality that the adapter knows."""

    @abstractmethod
    def endless_shards(self, dataset: Any) -> Any:
        """Return a dataset of `own_shard`s, after which empty shards follow without end."""

    @abstractmethod
    def divided_batches(self, dataset: Any, engine: Engine) -> Any:
        """Return the dataset of `divide` of each batch."""

    @abstractmethod
    def assigned_batches(self, dataset: Any, assignment: Any) -> Any:
        """Return the dataset of the batches that a `BatchAssignment` gives to the rank, as shards.

        It has equally many on every rank; those that only fill a round have no rows.
        """

    @abstractmethod
    def generated_shards(
        self,
        batches: Callable[[], Iterator[tuple[bool, Any]]],
        spec: Any,
        dividing: Engine | None,
    ) -> Any:
        """Return the dataset of what a generator yields in each pass.

        Args:
            batches: called for each pass; yields whether a batch counts, and the batch.
            spec: the element spec of a batch.
            dividing: the engine of ranks that `divide` each batch; None where they take it whole.
        """

    @abstractmethod
    def every_nth(self, dataset: Any, engine: Engine) -> Any:
        """Return every N-th element of a dataset of the framework, marked as a rank's shard."""
