import pytest
import tensorflow as tf

from impala_tf import files


@pytest.mark.parametrize(
  ('error', 'reason'),
  [
    (
      OSError(28, 'No space left on device', '/runs/x'),
      "[Errno 28] No space left on device: '/runs/x'",
    ),
    (
      tf.errors.ResourceExhaustedError(
        None,
        None,
        '{{function_node __wrapped__FlushSummaryWriter}} /runs/e; No space left on device\n\tCould not flush.',
      ),
      '/runs/e; No space left on device',
    ),
    (
      tf.errors.PermissionDeniedError(None, None, '/runs/x; Permission denied.'),
      '/runs/x; Permission denied',
    ),
    (OSError(), 'OSError'),
  ],
)
def test_reason_is_one_line(error, reason):
  assert files.reason(error) == reason


def test_the_systems_errors_are_told_as_tensorflows_are():
  with (
    pytest.raises(files.StorageError, match=r"^Can't write /runs: .*No space left\. Make room, "),
    files.writing('/runs'),
  ):
    raise OSError(28, 'No space left')


def test_other_errors_pass_as_they_are():
  with pytest.raises(KeyError), files.writing('/runs'):
    raise KeyError('x')


def test_tensorflow_tells_of_a_full_disk():
  with (
    pytest.raises(
      files.StorageError,
      match=r"^Can't write /runs: /dev/full; No space left on device\. Make room, .*$",
    ),
    files.writing('/runs'),
    tf.io.gfile.GFile('/dev/full', 'w') as file,
  ):
    file.write('x' * 10)
