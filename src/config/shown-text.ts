// The text of a configuration as it may be shown: as it was written, but with `***` for each secret that stands in it in clear.
// What is shown that way is no YAML any more (`*` begins an alias), so that nobody applies it by mistake.

import { isAlias, isScalar, parseDocument, visit, type Document, type Node } from 'yaml';
import { LIMITS } from '../core/limits.ts';
import { SECRET_FIELD } from '../observe/logger.ts';
import { SECRET_YAML_TAGS } from './document.ts';
import type { ModuleCatalogue } from './schema.ts';
import { isSecretTag, SecretSet } from './secrets.ts';
import { HIDDEN, plainSecrets } from './show.ts';

/** Undefined when the text is not YAML: then nobody knows where its secrets are. */
export function shownText(text: string, catalogue: ModuleCatalogue): string | undefined {
  const document = parseDocument(text, { customTags: SECRET_YAML_TAGS, uniqueKeys: false, prettyErrors: false });
  if (document.errors.length > 0) return undefined;
  const ranges = [...secretNodes(document, catalogue)].flatMap((node) => (node.range ? [node.range] : []));
  // From the end, so that the places before stay what they are.
  return ranges
    .toSorted(([a], [b]) => b - a)
    .reduce((shown, [start, end]) => {
      const lineEnd = shown.slice(start, end).endsWith('\n') ? '\n' : '';
      return shown.slice(0, start) + HIDDEN + lineEnd + shown.slice(end);
    }, text);
}

function secretNodes(document: Document, catalogue: ModuleCatalogue): Set<Node> {
  const nodes = new Set<Node>();
  const add = (node: unknown): void => {
    const meant = isAlias(node) ? node.resolve(document) : node;
    if (isScalar(meant) && meant.value !== null && !isSecretTag(meant.tag ?? '')) nodes.add(meant);
  };
  const values: unknown = document.toJS({ maxAliasCount: LIMITS.config_alias_nodes });
  for (const path of plainSecrets(values, catalogue, new SecretSet())) add(document.getIn(path, true));
  // A text with faults may have secrets where no schema knows of any.
  visit(document, {
    Pair: (_key, { key, value }) => {
      if (isScalar(key) && SECRET_FIELD.test(String(key.value))) add(value);
    },
  });
  return nodes;
}
