"""The peers from PyPI, each built as its documentation says and searched through its batch call.

An engine has `prepare(rows)`, which is not timed, `build(threads)`, which is, `measure()`, which leaves
`bytes_per_vector`, and `search(width)`: the seconds of all queries on one thread, and the rows found.
"""

import importlib.metadata
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy

from .data import K

M = 16
EF_CONSTRUCTION = 200


class Peer:
    package = None
    note = None

    @property
    def version(self):
        return importlib.metadata.version(self.package)

    def close(self):
        pass

    def beside_vectors(self, index_bytes):
        """Bytes per vector of an index that holds the float32 vectors too, without those."""
        return index_bytes / self.rows.count - 4 * self.rows.dimensions


class Hnswlib(Peer):
    name, package = "hnswlib", "hnswlib"
    bytes_from = "size of its file"

    def prepare(self, rows):
        import hnswlib

        self.library, self.rows = hnswlib, rows
        self.params = {"M": M, "efConstruction": EF_CONSTRUCTION}

    def build(self, threads):
        rows = self.rows
        # Rows are of unit length for the cosine already, and `ip` does not do that again.
        space = "l2" if rows.metric == "euclidean" else "ip"
        self.index = self.library.Index(space, rows.dimensions)
        self.index.init_index(rows.count, M=M, ef_construction=EF_CONSTRUCTION)
        self.index.add_items(rows.base, num_threads=threads)

    def measure(self):
        self.bytes_per_vector = self.beside_vectors(self.index.index_file_size())

    def search(self, width):
        self.index.set_ef(width)
        started = time.perf_counter()
        ids, _ = self.index.knn_query(self.rows.queries, k=K, num_threads=1)
        return time.perf_counter() - started, ids

    filter_note = "one query a call, and a Python function is asked about each row it comes by"

    def use_filter(self, masks, count):
        self.masks, self.filter_queries = masks, count
        # A list answers with its own True and False, faster than an array does.
        lines = range(count if masks.per_query else 1)
        self.allowed = [masks.unpacked([line])[0].astype(bool).tolist() for line in lines]

    def filtered(self, width):
        self.index.set_ef(width or 10)  # the library's default
        total, found = 0.0, []
        for query in range(self.filter_queries):
            allowed = self.allowed[query % len(self.allowed)].__getitem__
            for k in range(self.masks.wanted, 0, -1):
                started = time.perf_counter()
                try:
                    ids, _ = self.index.knn_query(
                        self.rows.queries[query], k=k, num_threads=1, filter=allowed
                    )
                except RuntimeError:
                    # It found fewer, and then gives none of them: ask for fewer.
                    ids = [[]]
                    continue
                break
            total += time.perf_counter() - started
            found.append(ids[0])
        return total, rectangle(found)

    def unfiltered(self):
        self.allowed = None


class Faiss(Peer):
    name, package = "faiss", "faiss-cpu"
    bytes_from = "serialised size"

    def prepare(self, rows):
        import faiss

        self.library, self.rows = faiss, rows
        self.params = {"M": M, "efConstruction": EF_CONSTRUCTION}

    def build(self, threads):
        faiss, rows = self.library, self.rows
        metric = faiss.METRIC_L2 if rows.metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        faiss.omp_set_num_threads(threads)
        self.index = faiss.IndexHNSWFlat(rows.dimensions, M, metric)
        self.index.hnsw.efConstruction = EF_CONSTRUCTION
        self.index.add(rows.base)

    def measure(self):
        self.library.omp_set_num_threads(1)
        size = self.library.serialize_index(self.index).nbytes
        self.bytes_per_vector = self.beside_vectors(size)

    def search(self, width):
        self.index.hnsw.efSearch = width
        started = time.perf_counter()
        _, ids = self.index.search(self.rows.queries, K)
        return time.perf_counter() - started, ids

    filter_note = "one query a call where the allowed rows differ from query to query"

    def use_filter(self, masks, count):
        self.filter_queries = self.rows.queries[:count]
        self.batches = [self.filter_queries]
        if masks.per_query:
            self.batches = [self.filter_queries[query : query + 1] for query in range(count)]
        bitmaps = masks.bits[: len(self.batches)]
        self.selectors = [self.library.IDSelectorBitmap(bits) for bits in bitmaps]

    def filtered(self, width):
        width = width or 16  # the library's default
        how = [self.library.SearchParametersHNSW(sel=selector, efSearch=width)
               for selector in self.selectors]
        started = time.perf_counter()
        found = [self.index.search(batch, K, params=params)[1]
                 for batch, params in zip(self.batches, how)]
        return time.perf_counter() - started, numpy.concatenate(found)

    def unfiltered(self):
        self.selectors = None


class Usearch(Peer):
    name, package = "usearch", "usearch"
    bytes_from = "serialised size"

    def prepare(self, rows):
        import usearch.index

        self.library, self.rows = usearch.index, rows
        self.params = {"connectivity": M, "expansion_add": EF_CONSTRUCTION, "dtype": "f32"}

    def build(self, threads):
        rows = self.rows
        self.index = self.library.Index(
            ndim=rows.dimensions,
            metric="l2sq" if rows.metric == "euclidean" else "ip",
            dtype="f32",
            connectivity=M,
            expansion_add=EF_CONSTRUCTION,
        )
        keys = numpy.arange(rows.count, dtype=numpy.uint64)
        self.index.add(keys, rows.base, threads=threads)

    def measure(self):
        self.bytes_per_vector = self.beside_vectors(self.index.serialized_length)

    def search(self, width):
        self.index.expansion_search = width
        started = time.perf_counter()
        found = self.index.search(self.rows.queries, K, threads=1)
        seconds = time.perf_counter() - started
        return seconds, found.keys.astype(numpy.int64)


class Svs(Peer):
    """Vamana. An encoding is made in the build, from a file as the library wants it."""

    name, package = "svs", "scalable-vs"
    bytes_from = "size of its files"
    holds_vectors = True
    encoding = "f32"

    def prepare(self, rows):
        import svs

        self.library, self.rows = svs, rows
        alpha = 1.2 if rows.metric == "euclidean" else 0.95
        self.params = {"degree": 32, "window": 200, "alpha": alpha, "encoding": self.encoding}
        self.folder = tempfile.mkdtemp(prefix="brainy-kernel-")
        self.source = self.encoded()

    def encoded(self):
        return self.rows.base

    def file(self):
        path = str(Path(self.folder) / "base.fvecs")
        self.library.write_vecs(self.rows.base, path)
        return self.library.VectorDataLoader(path, self.library.float32, self.rows.dimensions)

    def build(self, threads):
        svs = self.library
        how = svs.VamanaBuildParameters(
            alpha=self.params["alpha"], graph_max_degree=32, window_size=200
        )
        euclidean = self.rows.metric == "euclidean"
        distance = svs.DistanceType.L2 if euclidean else svs.DistanceType.MIP
        self.index = svs.Vamana.build(how, self.source, distance, threads)

    def measure(self):
        self.index.num_threads = 1
        saved = Path(self.folder) / "saved"
        saved.mkdir()
        self.index.save(*(str(saved / part) for part in ("config", "graph", "data")))
        size = folder_bytes(saved)
        if self.holds_vectors:
            self.bytes_per_vector = self.beside_vectors(size)
        else:
            self.bytes_per_vector = size / self.rows.count

    def search(self, width):
        self.index.search_window_size = width
        started = time.perf_counter()
        ids, _ = self.index.search(self.rows.queries, K)
        return time.perf_counter() - started, ids.astype(numpy.int64)

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class SvsLvq4x8(Svs):
    """On MiniLM the fastest of the encodings from a recall of .98 on; LeanVec is about level."""

    name = "svs-lvq"
    holds_vectors = False
    encoding = "LVQ4x8"
    bits = (4, 8)

    def encoded(self):
        return self.library.LVQLoader(self.file(), *self.bits, padding=32)


class SvsLvq8(SvsLvq4x8):
    """Has nothing to rerank with, and falls behind the others from a recall of .98 on."""

    name, encoding, bits = "svs-lvq8", "LVQ8", (8, 0)


class SvsLeanVec(Svs):
    name = "svs-leanvec"
    holds_vectors = False
    encoding = "LeanVec8xf16, half the dimensions"

    def encoded(self):
        kinds = self.library.LeanVecKind
        half = max(self.rows.dimensions // 2, 1)
        return self.library.LeanVecLoader(self.file(), half, kinds.lvq8, kinds.float16)


class Symqg(Peer):
    """SymphonyQG, by its authors. It links and walks over codes of one bit, 32 neighbours at a time."""

    name, package = "symqg", "rabitqlib"
    bytes_from = "size of its file"
    # 0: full-precision vectors beside the codes.
    bits = 0

    def prepare(self, rows):
        import rabitqlib

        self.library, self.rows = rabitqlib, rows
        self.params = {"max_degree": 32, "ef_construction": EF_CONSTRUCTION, "bits": self.bits}

    def build(self, threads):
        metric = "l2" if self.rows.metric == "euclidean" else "ip"
        self.index = self.library.SymqgIndex(self.rows.dimensions, 32, metric, self.bits)
        self.index.build(self.rows.base, EF_CONSTRUCTION, threads)

    def measure(self):
        with tempfile.TemporaryDirectory(prefix="brainy-kernel-") as folder:
            path = Path(folder) / "saved"
            self.index.save(str(path))
            size = path.stat().st_size
        self.bytes_per_vector = size / self.rows.count if self.bits else self.beside_vectors(size)

    def search(self, width):
        started = time.perf_counter()
        ids, _ = self.index.search_batch(self.rows.queries, K, width, 1)
        return time.perf_counter() - started, ids.astype(numpy.int64)


class Symqg8(Symqg):
    """Measures what it found at codes of 8 bits: faster, but it ends at a recall of about .99."""

    name, bits = "symqg-8", 8


class Vsag(Peer):
    """VSAG's graph over 8-bit codes, and full precision at the end."""

    name, package = "vsag", "pyvsag"
    bytes_from = "size of its file"
    note = "vsag has no batch call: each search is a call from Python"

    def prepare(self, rows):
        import pyvsag

        self.library, self.rows = pyvsag, rows
        self.params = {
            "base_quantization_type": "sq8_uniform",
            "use_reorder": True,
            "precise_quantization_type": "fp32",
            "max_degree": 2 * M,
            "ef_construction": EF_CONSTRUCTION,
        }

    def build(self, threads):
        rows = self.rows
        how = {
            "dtype": "float32",
            "metric_type": "l2" if rows.metric == "euclidean" else "ip",
            "dim": rows.dimensions,
            "index_param": {**self.params, "build_thread_count": threads},
        }
        self.index = self.library.Index("hgraph", json.dumps(how))
        ids = numpy.arange(rows.count, dtype=numpy.int64)
        self.index.build(rows.base.reshape(-1), ids, rows.count, rows.dimensions)

    def measure(self):
        with tempfile.TemporaryDirectory(prefix="brainy-kernel-") as folder:
            path = Path(folder) / "saved"
            self.index.save(str(path))
            self.bytes_per_vector = self.beside_vectors(path.stat().st_size)

    def search(self, width):
        how = json.dumps({"hgraph": {"ef_search": width}})
        started = time.perf_counter()
        found = [self.index.knn_search(query, K, how)[0] for query in self.rows.queries]
        seconds = time.perf_counter() - started
        return seconds, rectangle([ids.tolist() for ids in found])


class Scann(Peer):
    """Partitions of about the root of the number of rows, 4-bit codes, and full precision for the best 100, as
    its documentation says. The width is the number of partitions that are read."""

    name, package = "scann", "scann"
    bytes_from = "size of its files"
    REORDERED = 100

    def prepare(self, rows):
        import scann

        self.library, self.rows = scann.scann_ops_pybind, rows
        self.leaves = max(int(rows.count**0.5), 1)
        threshold = None if rows.metric == "euclidean" else 0.2
        self.params = {"num_leaves": self.leaves, "dimensions_per_block": 2, "reorder": self.REORDERED,
                       "anisotropic_quantization_threshold": threshold}

    def build(self, threads):
        rows = self.rows
        metric = "squared_l2" if rows.metric == "euclidean" else "dot_product"
        builder = self.library.builder(rows.base, K, metric).set_n_training_threads(threads)
        builder = builder.tree(self.leaves, max(self.leaves // 10, 1), training_sample_size=rows.count)
        threshold = self.params["anisotropic_quantization_threshold"]
        how = {} if threshold is None else {"anisotropic_quantization_threshold": threshold}
        self.index = builder.score_ah(2, **how).reorder(self.REORDERED).build()

    def measure(self):
        with tempfile.TemporaryDirectory(prefix="brainy-kernel-") as folder:
            self.index.serialize(folder)
            self.bytes_per_vector = self.beside_vectors(folder_bytes(folder))

    def search(self, width):
        started = time.perf_counter()
        ids, _ = self.index.search_batched(
            self.rows.queries, K, self.REORDERED, min(width, self.leaves))
        return time.perf_counter() - started, ids.astype(numpy.int64)


class Qdrant(Peer):
    """Qdrant's engine in this process: one segment, without a log."""

    name, package = "qdrant", "qdrant-edge-py"
    bytes_from = "its graph's and ids' files"
    shard = None

    def prepare(self, rows):
        import qdrant_edge

        self.library, self.rows = qdrant_edge, rows
        self.params = {"m": M, "ef_construct": EF_CONSTRUCTION}
        self.folder = tempfile.mkdtemp(prefix="brainy-kernel-")
        self.points = [qdrant_edge.Point(row, vector) for row, vector in enumerate(rows.base)]
        self.nearest = [qdrant_edge.Query.Nearest(query.tolist()) for query in rows.queries]

    def build(self, threads):
        edge = self.library
        distances = {
            "euclidean": edge.Distance.Euclid,
            "cosine": edge.Distance.Cosine,
            "dot": edge.Distance.Dot,
        }
        # Thresholds in kilobytes: index whatever there is, and always use the index.
        config = edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(self.rows.dimensions, distances[self.rows.metric]),
            hnsw_config=edge.HnswIndexConfig(M, EF_CONSTRUCTION, 1, threads),
            optimizers=edge.EdgeOptimizersConfig(
                default_segment_number=1, max_segment_size=1 << 40, indexing_threshold=1
            ),
            max_search_threads=1,
            wal_enabled=False,
        )
        self.shard = edge.EdgeShard.create(self.folder, config)
        for first in range(0, len(self.points), 1000):
            batch = self.points[first : first + 1000]
            self.shard.update(edge.UpdateOperation.upsert_points(batch))
        self.shard.optimize()

    def measure(self):
        self.points = None
        known = self.shard.info()
        if known.indexed_vectors_count < self.rows.count:
            raise RuntimeError(f"only {known.indexed_vectors_count} vectors were indexed")
        segments = Path(self.folder) / "segments"
        indexed = [path.parent for path in segments.glob("*/vector_index")]
        size = sum(folder_bytes(path / "vector_index") for path in indexed)
        size += sum(path.stat().st_size for place in indexed for path in place.glob("id_tracker.*"))
        self.bytes_per_vector = size / self.rows.count
        empty = self.requests(limit=1, query=None)
        started = time.perf_counter()
        self.shard.query_batch(empty)
        each = 1e6 * (time.perf_counter() - started) / len(self.nearest)
        self.note = f"about {each:.1f} us of each search of qdrant is the call: an empty one takes that"

    def requests(self, limit, query=True, **params):
        edge = self.library
        params = edge.SearchParams(**params)
        return edge.QueryBatchRequest([
            edge.QueryRequest(limit=limit, query=query and nearest, params=params)
            for nearest in self.nearest
        ])

    def search(self, width):
        batch = self.requests(K, hnsw_ef=width)
        started = time.perf_counter()
        found = self.shard.query_batch(batch)
        seconds = time.perf_counter() - started
        return seconds, rectangle([[point.id for point in points] for points in found])

    def close(self):
        if self.shard:
            self.shard.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def rectangle(lists):
    """Rows of K ids, with -1 where fewer were found."""
    ids = numpy.full((len(lists), K), -1, dtype=numpy.int64)
    for line, found in enumerate(lists):
        ids[line, : len(found[:K])] = found[:K]
    return ids


def folder_bytes(folder):
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
