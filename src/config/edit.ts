// Changes values in a person's file and leaves the rest as it was written: comments, order, quotes, blank lines.

import { isDeepStrictEqual } from 'node:util';
import { isAlias, isCollection, isMap, isScalar, isSeq, parseDocument, Scalar, type Document } from 'yaml';
import { GatewayError } from '../core/errors.ts';
import { SECRET_YAML_TAGS } from './document.ts';
import { type ConfigPath, pathText } from './fault.ts';
import { isSecretTag, type SecretTag } from './secrets.ts';

/** A secret by reference, where a value may stand. */
export interface SecretReferenceValue {
  readonly tag: SecretTag;
  readonly name: string;
}

export type ConfigEdit =
  | { readonly path: ConfigPath; readonly value: unknown }
  | { readonly path: ConfigPath; readonly secret: SecretReferenceValue }
  | { readonly path: ConfigPath; readonly remove: true };

/**
 * The text with the edits made, in their order. Maps on the way that are missing are made; removing what is not there is
 * no fault. Whether the result is a good configuration is for the loader to say.
 * @throws GatewayError GW_CONFIG_INVALID when the text is not YAML, or a path goes through a single value.
 */
export function editConfigText(text: string, edits: readonly ConfigEdit[]): string {
  let current = text;
  for (const edit of edits) current = applyEdit(current, edit);
  return current;
}

function applyEdit(text: string, edit: ConfigEdit): string {
  const document = parse(text);
  const place = isScalarEdit(edit) ? document.getIn(edit.path, true) : undefined;
  // An alias is given its own copy before it is changed, so that what it points to stays.
  ownCopies(document, edit.path);
  change(document, edit);
  const written = document.toString({ lineWidth: 0 });
  if (!isScalar(place) || place.range === undefined || place.range === null || place.tag !== undefined) return written;
  // One value replaced by another: put into the text as it is, because writing the whole file anew would move comments.
  // Taken only if it means the very same.
  const [start, end] = place.range;
  const spliced = text.slice(0, start) + JSON.stringify((edit as { value: unknown }).value) + text.slice(end);
  const plain = typeof (edit as { value: unknown }).value === 'string' ? trySplice(text, start, end, edit) : undefined;
  return [plain, spliced].find((candidate) => candidate !== undefined && meansTheSame(candidate, written)) ?? written;
}

/** The quotes that the person used, if the new text allows it. */
function trySplice(text: string, start: number, end: number, edit: ConfigEdit): string | undefined {
  const value = (edit as { value: unknown }).value as string;
  const quote = text[start] === "'" ? "'" : '';
  if (text[start] === '"' || !/^[\w./$@{}-][\w./$@{}: -]*$/.test(value)) return undefined;
  return text.slice(0, start) + quote + value + quote + text.slice(end);
}

function isScalarEdit(edit: ConfigEdit): boolean {
  return 'value' in edit && ['string', 'number', 'boolean'].includes(typeof edit.value);
}

function parse(text: string): Document {
  const document = parseDocument(text, { customTags: SECRET_YAML_TAGS, uniqueKeys: false, prettyErrors: false });
  const [error] = document.errors;
  if (error !== undefined) {
    throw new GatewayError(
      'GW_CONFIG_INVALID',
      `The configuration is not valid YAML: ${error.message}. Mend it first.`,
    );
  }
  return document;
}

function change(document: Document, edit: ConfigEdit): void {
  const { path } = edit;
  if (path.length === 0) throw new GatewayError('GW_CONFIG_INVALID', 'An edit needs a path.');
  if ('remove' in edit) {
    if (document.hasIn(path)) document.deleteIn(path);
    return;
  }
  makeParents(document, path);
  const before = document.getIn(path, true);
  const value = 'secret' in edit ? secretNode(edit.secret) : edit.value;
  // A scalar that is set keeps its tag: `!env PASSWORD` must not become `!env hunter2`.
  if ('secret' in edit || (isScalar(before) && before.tag !== undefined && isSecretTag(before.tag))) {
    const node = 'secret' in edit ? value : document.createNode(value);
    if (isScalar(before) && isScalar(node)) {
      if (before.comment !== undefined) node.comment = before.comment;
      if (before.commentBefore !== undefined) node.commentBefore = before.commentBefore;
    }
    document.setIn(path, node);
    return;
  }
  document.setIn(path, typeof value === 'object' && value !== null ? document.createNode(value) : value);
}

function secretNode({ tag, name }: SecretReferenceValue): Scalar {
  const node = new Scalar(name);
  node.tag = tag;
  return node;
}

/** Turns what stands on the way to a path into maps where nothing stands yet. */
function makeParents(document: Document, path: ConfigPath): void {
  for (let depth = 0; depth < path.length; depth += 1) {
    const above = path.slice(0, depth);
    const node: unknown = depth === 0 ? document.contents : document.getIn(above, true);
    if (isMap(node) || isSeq(node)) continue;
    const empty = node === undefined || node === null || (isScalar(node) && node.value === null);
    if (!empty) {
      throw new GatewayError(
        'GW_CONFIG_INVALID',
        `${pathText(above)} is a single value; ${pathText(path)} cannot stand below it.`,
      );
    }
    if (depth === 0) document.contents = document.createNode({});
    else document.setIn(above, document.createNode({}));
  }
}

function ownCopies(document: Document, path: ConfigPath): void {
  for (let depth = 1; depth < path.length; depth += 1) {
    const above = path.slice(0, depth);
    const node: unknown = document.getIn(above, true);
    if (!isAlias(node)) continue;
    const target = node.resolve(document);
    if (target === undefined || !isCollection(target)) return;
    const copy = target.clone() as typeof target;
    delete copy.anchor;
    document.setIn(above, copy);
  }
}

function meansTheSame(text: string, other: string): boolean {
  const [a, b] = [text, other].map((one) => parseDocument(one, { customTags: SECRET_YAML_TAGS, uniqueKeys: false }));
  if (a === undefined || b === undefined || a.errors.length > 0 || b.errors.length > 0) return false;
  return isDeepStrictEqual(plain(a), plain(b));
}

function plain(document: Document): unknown {
  return document.toJS({ maxAliasCount: 1000 });
}
