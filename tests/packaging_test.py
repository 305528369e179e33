"""What surrounds the code: versions agree, and the image has what the command needs."""

import re
import shlex
import tomllib

import yaml

import impala_tf
from tests.support.processes import ROOT


def test_versions_agree():
  citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
  assert citation['version'] == impala_tf.__version__
  changes = re.findall(r'^## (\d+\.\d+\.\d+)$', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)
  assert changes[0] == impala_tf.__version__
  assert changes == sorted(changes, key=lambda v: [int(n) for n in v.split('.')], reverse=True)
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  (cuda,) = project['optional-dependencies']['cuda']
  assert cuda.replace('[and-cuda]', '') in (ROOT / 'requirements.txt').read_text().splitlines()


def test_the_paper_is_cited_with_all_its_authors():
  paper = yaml.safe_load((ROOT / 'CITATION.cff').read_text())['preferred-citation']
  readme = (ROOT / 'README.md').read_text()
  (authors,) = re.findall(r'author=\{(.*?)\}', readme, re.DOTALL)
  names = [name.split(', ') for name in re.split(r'\s+and\s+', authors)]
  assert [[a['family-names'], a['given-names']] for a in paper['authors']] == names


def test_the_image_has_all_that_the_command_imports():
  lines = (ROOT / 'Dockerfile').read_text().replace('\\\n', ' ').splitlines()
  copied = {word for line in lines if line.startswith('COPY ') for word in shlex.split(line)[1:-1]}
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['setuptools']
  packages = {name.rstrip('*') for name in project['packages']['find']['include']}
  # `suites` reads pyproject.toml, and --pretrained the folder of that name.
  assert copied == {
    *('requirements.txt', 'README.md', 'pyproject.toml', 'pretrained', 'run_experiment.py'),
    *packages,
  }
  assert all((ROOT / name).exists() for name in copied)
  # What is not named in .dockerignore is not sent to the builder.
  sent = re.findall(r'^!(\S+)$', (ROOT / '.dockerignore').read_text(), re.MULTILINE)
  assert copied <= set(sent)
  (entry,) = [line for line in lines if line.startswith('ENTRYPOINT ')]
  assert entry == 'ENTRYPOINT ["python", "run_experiment.py"]'
