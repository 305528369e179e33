"""Hook of MkDocs: the site is made of the documents where they are in the repository, so that their
links hold in both, and the reference is made of the docstrings.
"""

import pathlib

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = (
  'README.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'atari57/README.md',
  'dmlab30/README.md',
  'docs/**/*.md',
  'docs/*.yaml',
  'docs/*.ipynb',
  'pretrained/README.md',
  'results/README.md',
  'results/**/*.png',
  'results/*.gif',
)
# Modules of the reference, in the order in which the data goes through them.
MODULES = (
  'impala_tf',
  'impala_tf.config',
  'impala_tf.config.options',
  'impala_tf.environments.base',
  'impala_tf.environments.suite',
  'impala_tf.environments.suites',
  'impala_tf.structs',
  'impala_tf.agent.agents',
  'impala_tf.agent.networks',
  'impala_tf.learning.vtrace',
  'impala_tf.learning.losses',
  'impala_tf.learning.optimizers',
  'impala_tf.learning.learner',
  'impala_tf.training.loop',
  'impala_tf.training.export',
  'impala_tf.evaluation.evaluate',
  'impala_tf.evaluation.loaded_agent',
  'impala_tf.reports.statistics',
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
  """Fills in the pages of the reference."""
  pages = [{module: f'reference/{module}.md'} for module in MODULES]
  config.nav = [{'Reference': pages} if 'Reference' in entry else entry for entry in config.nav]
  return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Takes the documents in place of those below `docs_dir`, and keeps what the theme adds."""
  site = Files([file for file in files if file.generated_by or file.src_dir != config.docs_dir])
  for pattern in DOCUMENTS:
    for path in sorted(ROOT.glob(pattern)):
      source = str(path.relative_to(ROOT))
      site.append(File(source, str(ROOT), config.site_dir, config.use_directory_urls))
  for module in MODULES:
    content = f'# {module}\n\n::: {module}\n'
    site.append(File.generated(config, f'reference/{module}.md', content=content))
  return site
