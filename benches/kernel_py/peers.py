"""The peers from PyPI, each built as its documentation says and searched through its batch call.

An engine has `build`, which leaves `params` and `bytes_per_vector`, and `search(width)`, which gives
the seconds that all queries took on one thread and the rows found.
"""

import importlib.metadata
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

    def beside_vectors(self, index_bytes, rows):
        """Bytes per vector of an index that holds the float32 vectors too, without those."""
        return index_bytes / rows.count - 4 * rows.dimensions


class Hnswlib(Peer):
    name, package = "hnswlib", "hnswlib"
    bytes_from = "size of its file"

    def build(self, rows, threads):
        import hnswlib

        self.params = {"M": M, "efConstruction": EF_CONSTRUCTION}
        self.rows = rows
        # Rows are of unit length for the cosine already, and `ip` does not do that again.
        space = "l2" if rows.metric == "euclidean" else "ip"
        self.index = hnswlib.Index(space, rows.dimensions)
        self.index.init_index(rows.count, M=M, ef_construction=EF_CONSTRUCTION)
        self.index.set_num_threads(threads)
        self.index.add_items(rows.base, num_threads=threads)

    def measure(self):
        self.bytes_per_vector = self.beside_vectors(self.index.index_file_size(), self.rows)

    def search(self, width):
        self.index.set_ef(width)
        started = time.perf_counter()
        ids, _ = self.index.knn_query(self.rows.queries, k=K, num_threads=1)
        return time.perf_counter() - started, ids


class Faiss(Peer):
    name, package = "faiss", "faiss-cpu"
    bytes_from = "serialised size"

    def build(self, rows, threads):
        import faiss

        self.params = {"M": M, "efConstruction": EF_CONSTRUCTION}
        self.rows = rows
        metric = faiss.METRIC_L2 if rows.metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        faiss.omp_set_num_threads(threads)
        self.index = faiss.IndexHNSWFlat(rows.dimensions, M, metric)
        self.index.hnsw.efConstruction = EF_CONSTRUCTION
        self.index.add(rows.base)

    def measure(self):
        import faiss

        faiss.omp_set_num_threads(1)
        size = faiss.serialize_index(self.index).nbytes
        self.bytes_per_vector = self.beside_vectors(size, self.rows)

    def search(self, width):
        self.index.hnsw.efSearch = width
        started = time.perf_counter()
        _, ids = self.index.search(self.rows.queries, K)
        return time.perf_counter() - started, ids


class Usearch(Peer):
    name, package = "usearch", "usearch"
    bytes_from = "serialised size"

    def build(self, rows, threads):
        from usearch.index import Index

        self.params = {"connectivity": M, "expansion_add": EF_CONSTRUCTION, "dtype": "f32"}
        self.rows = rows
        self.index = Index(
            ndim=rows.dimensions,
            metric="l2sq" if rows.metric == "euclidean" else "ip",
            dtype="f32",
            connectivity=M,
            expansion_add=EF_CONSTRUCTION,
        )
        keys = numpy.arange(rows.count, dtype=numpy.uint64)
        self.index.add(keys, rows.base, threads=threads)

    def measure(self):
        self.bytes_per_vector = self.beside_vectors(self.index.serialized_length, self.rows)

    def search(self, width):
        self.index.expansion_search = width
        started = time.perf_counter()
        found = self.index.search(self.rows.queries, K, threads=1)
        seconds = time.perf_counter() - started
        return seconds, found.keys.astype(numpy.int64)


class Svs(Peer):
    """Vamana. The rows are encoded inside the timed build, from a file as the library wants it."""

    name, package = "svs", "scalable-vs"
    bytes_from = "size of its files"
    holds_vectors = True
    encoding = "f32"

    def build(self, rows, threads):
        import svs

        euclidean = rows.metric == "euclidean"
        alpha = 1.2 if euclidean else 0.95
        self.params = {"degree": 32, "window": 200, "alpha": alpha, "encoding": self.encoding}
        self.rows = rows
        with tempfile.TemporaryDirectory(prefix="brainy-kernel-") as folder:
            self.index = svs.Vamana.build(
                svs.VamanaBuildParameters(alpha=alpha, graph_max_degree=32, window_size=200),
                self.source(svs, rows, folder),
                svs.DistanceType.L2 if euclidean else svs.DistanceType.MIP,
                threads,
            )

    def source(self, svs, rows, folder):
        return rows.base

    @staticmethod
    def file(svs, rows, folder):
        path = str(Path(folder) / "base.fvecs")
        svs.write_vecs(rows.base, path)
        return svs.VectorDataLoader(path, svs.float32, rows.dimensions)

    def measure(self):
        self.index.num_threads = 1
        with tempfile.TemporaryDirectory(prefix="brainy-kernel-") as folder:
            self.index.save(*(f"{folder}/{part}" for part in ("config", "graph", "data")))
            size = folder_bytes(folder)
        if self.holds_vectors:
            self.bytes_per_vector = self.beside_vectors(size, self.rows)
        else:
            self.bytes_per_vector = size / self.rows.count

    def search(self, width):
        self.index.search_window_size = width
        started = time.perf_counter()
        ids, _ = self.index.search(self.rows.queries, K)
        return time.perf_counter() - started, ids.astype(numpy.int64)


class SvsLvq4x8(Svs):
    name = "svs-lvq"
    holds_vectors = False
    encoding = "LVQ4x8"
    bits = (4, 8)

    def source(self, svs, rows, folder):
        return svs.LVQLoader(self.file(svs, rows, folder), *self.bits, padding=32)


class SvsLvq8(SvsLvq4x8):
    name, encoding, bits = "svs-lvq8", "LVQ8", (8, 0)


class SvsLeanVec(Svs):
    name = "svs-leanvec"
    holds_vectors = False
    encoding = "LeanVec8xf16, half the dimensions"

    def source(self, svs, rows, folder):
        kinds = svs.LeanVecKind
        half = max(rows.dimensions // 2, 1)
        return svs.LeanVecLoader(self.file(svs, rows, folder), half, kinds.lvq8, kinds.float16)


class Qdrant(Peer):
    """Qdrant's engine in this process: one segment, without a log; points are made beforehand."""

    name, package = "qdrant", "qdrant-edge-py"
    bytes_from = "its graph's and ids' files"

    def build(self, rows, threads):
        import qdrant_edge as edge

        self.params = {"m": M, "ef_construct": EF_CONSTRUCTION}
        self.rows, self.edge = rows, edge
        distances = {"euclidean": edge.Distance.Euclid, "cosine": edge.Distance.Cosine,
                     "dot": edge.Distance.Dot}
        # Thresholds in kilobytes: index whatever there is, and always use the index.
        hnsw = edge.HnswIndexConfig(M, EF_CONSTRUCTION, 1, threads)
        optimizers = edge.EdgeOptimizersConfig(
            default_segment_number=1, max_segment_size=1 << 40, indexing_threshold=1
        )
        vectors = edge.EdgeVectorParams(rows.dimensions, distances[rows.metric])
        self.folder = tempfile.mkdtemp(prefix="brainy-kernel-")
        self.shard = edge.EdgeShard.create(
            self.folder,
            edge.EdgeConfig(vectors=vectors, hnsw_config=hnsw, optimizers=optimizers,
                            max_search_threads=1, wal_enabled=False),
        )
        points = [edge.Point(row, vector) for row, vector in enumerate(rows.base)]
        self.nearest = [edge.Query.Nearest(vector.tolist()) for vector in rows.queries]
        self.started = time.perf_counter()
        for first in range(0, len(points), 1000):
            batch = points[first : first + 1000]
            self.shard.update(edge.UpdateOperation.upsert_points(batch))
        self.shard.optimize()

    def measure(self):
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
        edge = self.edge
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
