"""Handlers that start compressions, ports and repairs of embeddings for the active model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from lib_embedmerge.errors import HostError, quote
from lib_embedmerge.ui.following_handlers import FollowingHandlers
from lib_embedmerge.ui.guards import as_html
from lib_embedmerge.ui.job_handlers import find_checkpoints, read_list

if TYPE_CHECKING:
    from lib_embedmerge.actions.optimised_files import Target
    from lib_embedmerge.hosts.port import Host


@dataclass(frozen=True)
class OptimiseForm:
    """What the user has entered.

    places: the ticked embeddings, a list in JSON.  name: of the new embedding, blank for one that is made of the old
    one's.  overwrite: whether a file of that name may be replaced.
    """

    places: str
    name: str = ""
    overwrite: bool = False


class OptimisingHandlers(FollowingHandlers):
    """Handlers of the section that compresses, ports and repairs, for one host."""

    @as_html
    def compress(self, form: OptimiseForm, source: str, vectors: str) -> Markup:
        """Start to compress a text, or the ticked embedding if the text is blank. vectors: how many to make."""
        from lib_embedmerge.actions.active_checkpoint import find_active_checkpoint
        from lib_embedmerge.actions.optimising import CompressRequest
        from lib_embedmerge.actions.optimising_jobs import OPTIMISING_JOBS
        from lib_embedmerge.actions.typed_input import read_to_build

        host = self._host()
        checkpoint = find_active_checkpoint(host)
        count, target = _read_count(vectors), _make_target(host, form)
        if source.strip():
            read_to_build(source)  # finds mistakes before the job starts
            if target.name is None:
                raise HostError("The new embedding needs a name.", hint="Type one.")
            request = CompressRequest(target, count, source)
        else:
            request = CompressRequest(target, count, file=_find_file(host, form, "compressed"))
        return self._show(lambda: OPTIMISING_JOBS.compress(host, request, checkpoint))

    @as_html
    def port(self, form: OptimiseForm, made_for: str) -> Markup:
        """Start to port the ticked embedding to the active model. made_for: title of the checkpoint it was made for."""
        from lib_embedmerge.actions.active_checkpoint import find_active_checkpoint
        from lib_embedmerge.actions.optimising import PortRequest
        from lib_embedmerge.actions.optimising_jobs import OPTIMISING_JOBS

        host = self._host()
        checkpoint = find_active_checkpoint(host)
        request = PortRequest(_make_target(host, form), _find_file(host, form, "ported"))
        if not made_for:
            raise HostError("No checkpoint is chosen.", hint="Choose the one that the embedding was made for.")
        (first,) = find_checkpoints(host, [made_for])
        return self._show(lambda: OPTIMISING_JOBS.port(host, request, first, checkpoint))

    @as_html
    def repair(self, form: OptimiseForm) -> Markup:
        """Start to make a copy of the ticked embedding that does not drown its prompts on the active model."""
        from lib_embedmerge.actions.active_checkpoint import find_active_checkpoint
        from lib_embedmerge.actions.optimising import RepairRequest
        from lib_embedmerge.actions.optimising_jobs import OPTIMISING_JOBS

        host = self._host()
        checkpoint = find_active_checkpoint(host)
        request = RepairRequest(_make_target(host, form), _find_file(host, form, "repaired"))
        return self._show(lambda: OPTIMISING_JOBS.repair(host, request, checkpoint))

    def _show(self, start: Callable[[], str]) -> Markup:
        """The progress of a job that is started now. start: starts it, and returns its id."""
        from lib_embedmerge.ui.views.optimised_view import OPTIMISED

        return self._show_started(start, lambda: self.show_running(OPTIMISED))


def _find_file(host: Host, form: OptimiseForm, action: str) -> Path:
    """The ticked embedding. HostError if none or several are ticked. action: a participle for the message."""
    from lib_embedmerge.actions.managing import find_single_path

    return find_single_path(host, read_list(form.places), action)


def _make_target(host: Host, form: OptimiseForm) -> Target:
    """Where the result is written. HostError if the name cannot be that of an embedding."""
    from lib_embedmerge.actions.optimised_files import Target
    from lib_embedmerge.actions.saving import check_name

    checked = check_name(host, form.name)
    if checked.error:
        raise HostError(checked.error, hint=f"This name works: {checked.better}." if checked.better else None)
    return Target(host.embeddings_folder, checked.name or None, form.overwrite, host)


def _read_count(vectors: str) -> int:
    """A number of vectors. HostError if the text is none."""
    if not vectors.strip().isdecimal():
        raise HostError(f"{quote(vectors)} is not a number of vectors.", expected="a number from 1 to 75")
    return int(vectors)
