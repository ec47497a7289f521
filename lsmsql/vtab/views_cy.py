# cython: language_level=3
"""Views: which moment the cursors of one connection read at, in one engine.

Cursors of one statement share a view, and inside BEGIN all statements do. An unfinished SELECT keeps it for later ones, as it keeps SQLite's
own read transaction.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from lsmsql import _cython as cython

from lsmsql.engine.kernel import Kind
from lsmsql.engine.kernel import get as _kernel_get
from lsmsql.engine.kernel import get_entry as _kernel_get_entry
from lsmsql.errors import ClosedError

_VALUE = int(Kind.VALUE)


@cython.cclass
class SharedView:
    """A read view and how many hold it: the cursors that read at it, and the transaction as long as it lasts."""

    view = cython.declare(object, visibility="public")
    holders = cython.declare(cython.Py_ssize_t, visibility="public")

    def __init__(self, view):
        self.view = view
        self.holders = 0

    def get(self, tree, key):
        """The value of a key of an SQL tree of this engine, or None: `view.get` at half its cost."""
        sources = self._sources(tree)
        return _kernel_get(sources[0], sources[1], key, self.view.seqno)

    def get_timed(self, tree, key):
        """(value, seqno of the commit that wrote it), or None."""
        sources = self._sources(tree)
        entry = _kernel_get_entry(sources[0], sources[1], key, self.view.seqno)
        return None if entry is None or entry[1] != _VALUE else (entry[2], entry[0])

    @cython.cfunc
    def _sources(self, tree):
        state = self.view.state
        if state is None:
            raise ClosedError("the read view is closed")
        number = tree.id
        sources = state.sources.get(number)
        return state.open_sources(number) if sources is None else sources


@cython.cclass
class Views:
    """shared: the SharedView that new cursors read at, None while nothing is read; held: whether the transaction itself holds it."""

    shared = cython.declare(object, visibility="public")
    held = cython.declare(cython.bint, visibility="public")
    _engine: object

    def __init__(self, engine):
        self._engine = engine
        self.shared = None
        self.held = False

    def acquire(self, view=None):
        """The view that a new cursor reads at; give it back with `release`. view: to read in, where nothing is being read yet."""
        shared: SharedView = self.shared
        if shared is None:
            shared = self.shared = SharedView(view or self._engine.current_view())
        shared.holders += 1
        return shared

    def release(self, given):
        shared: SharedView = given
        shared.holders -= 1
        if shared.holders == 0:
            if self.shared is shared:
                self.shared = None
            shared.view.close()

    def hold(self, view=None):
        """The transaction reads at this moment until `let_go`. view: to read in, where nothing is being read yet."""
        if not self.held:
            self.acquire(view)
            self.held = True

    def let_go(self):
        if self.held:
            self.held = False
            self.release(self.shared)

    def forget(self):
        """Cursors that are open go on at their moment; new ones see the newest."""
        self.let_go()
        self.shared = None
