// Subscriptions by topic filter, for asking what a topic matches (MQTT 3.1.1, 4.7).

interface Node<T> {
  readonly children: Map<string, Node<T>>;
  readonly values: T[];
}

export class FilterTrie<T> {
  readonly #root: Node<T> = { children: new Map(), values: [] };
  #size = 0;
  #changes = 0;

  /** Counts what was added and removed: while it is the same, `match` gives the same. */
  get changes(): number {
    return this.#changes;
  }

  get size(): number {
    return this.#size;
  }

  add(filter: string, value: T): void {
    let node = this.#root;
    for (const level of filter.split('/')) {
      let child = node.children.get(level);
      if (child === undefined) {
        child = { children: new Map(), values: [] };
        node.children.set(level, child);
      }
      node = child;
    }
    node.values.push(value);
    this.#size += 1;
    this.#changes += 1;
  }

  /** Takes away one value that the test accepts. */
  remove(filter: string, accepts: (value: T) => boolean): void {
    const path: { readonly node: Node<T>; readonly level: string }[] = [];
    let node = this.#root;
    for (const level of filter.split('/')) {
      const child = node.children.get(level);
      if (child === undefined) return;
      path.push({ node, level });
      node = child;
    }
    const index = node.values.findIndex(accepts);
    if (index < 0) return;
    node.values.splice(index, 1);
    this.#size -= 1;
    this.#changes += 1;
    for (const { node: parent, level } of path.reverse()) {
      const child = parent.children.get(level);
      if (child === undefined || child.values.length > 0 || child.children.size > 0) return;
      parent.children.delete(level);
    }
  }

  match(topic: string): readonly T[] {
    if (this.#size === 0) return [];
    const found: T[] = [];
    collect(this.#root, topic.split('/'), 0, found);
    return found;
  }
}

function collect<T>(node: Node<T>, levels: readonly string[], depth: number, found: T[]): void {
  // A wildcard does not match a first level that begins with $ (MQTT 3.1.1, 4.7.2).
  const wild = depth > 0 || levels[0]?.startsWith('$') !== true;
  // `#` includes the level above it.
  const rest = wild ? node.children.get('#') : undefined;
  if (rest !== undefined) found.push(...rest.values);
  const level = levels[depth];
  if (level === undefined) {
    found.push(...node.values);
    return;
  }
  const exact = node.children.get(level);
  if (exact !== undefined) collect(exact, levels, depth + 1, found);
  const any = wild ? node.children.get('+') : undefined;
  if (any !== undefined) collect(any, levels, depth + 1, found);
}
