from job.layout import config_of, data_path, data_pattern, is_data_of, manifest_paths
from job.shards import Shard


def test_the_default_configuration_has_the_folder_that_readers_look_into() -> None:
    assert data_path(config_of(None), "test", Shard(0, 1)) == "data/test-00000-of-00001.parquet"
    assert data_path("main", "train", Shard(2, 16)) == "main/train-00002-of-00016.parquet"
    assert data_pattern("default", "test") == "data/test-*"
    assert manifest_paths("default", "test") == ("run.json", "run-test.json")
    assert manifest_paths("main", "dev") == ("main/run.json", "main/run-dev.json")


def test_data_of_a_split_is_what_its_pattern_takes_in() -> None:
    assert is_data_of("data/test-00000-of-00002.parquet", "default", "test")
    assert is_data_of("data/test-old.txt", "default", "test")
    for other in ("data/train-00000-of-00001.parquet", "main/test-0.parquet", "data/more/test-0.parquet", "test-0.parquet"):
        assert not is_data_of(other, "default", "test")


def test_a_configuration_is_never_in_the_place_of_another() -> None:
    assert data_path("data", "test", Shard(0, 1)) == "data/data/test-00000-of-00001.parquet"
    assert manifest_paths("data", "test") == ("data/data/run.json", "data/data/run-test.json")
    assert not is_data_of(data_path("data", "test", Shard(0, 1)), "default", "test")
    assert not is_data_of(data_path("default", "test", Shard(0, 1)), "data", "test")


def test_a_pattern_means_its_configuration_alone() -> None:
    assert data_pattern("a[b]", "test") == "a[[]b]/test-*"
    assert data_path("a[b]", "test", Shard(0, 1)) == "a[b]/test-00000-of-00001.parquet"
