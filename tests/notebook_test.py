"""The notebook runs from its first cell to its last, without a browser."""

import nbclient
import nbformat

from tests.support.processes import ROOT

NOTEBOOK = ROOT / 'docs/first_look.ipynb'


def test_it_runs_and_shows_what_it_says(tmp_path, monkeypatch):
  monkeypatch.setenv('MPLCONFIGDIR', str(tmp_path))
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  assert not any(cell.get('outputs') for cell in notebook.cells)  # They would be out of date.
  client = nbclient.NotebookClient(
    notebook, timeout=300, kernel_name='python3', resources={'metadata': {'path': NOTEBOOK.parent}}
  )
  client.execute()
  outputs = [output for cell in notebook.cells for output in cell.get('outputs', ())]
  text = ''.join(output.get('text', '') for output in outputs)
  assert 'it keeps the pole up for' in text
  assert 'Saved at frame 40_000' in text
  assert [output for output in outputs if 'image/png' in output.get('data', {})]
  assert 'Traceback' not in text
