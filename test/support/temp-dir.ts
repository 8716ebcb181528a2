// Directories that vanish with the test that made them.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TempDir extends Disposable {
  readonly path: string;
  /** A path inside; nothing is created. */
  file(...parts: string[]): string;
  /** A directory inside, created with its parents. */
  directory(...parts: string[]): string;
  /** Idempotent; also called by `using`. */
  remove(): void;
}

/** A fresh directory under the system's one for temporary files. */
export function createTempDir(name = 'test'): TempDir {
  const path = mkdtempSync(join(tmpdir(), `fieldpost-${name}-`));
  const remove = (): void => rmSync(path, { recursive: true, force: true });
  return {
    path,
    file: (...parts) => join(path, ...parts),
    directory(...parts) {
      const directory = join(path, ...parts);
      mkdirSync(directory, { recursive: true });
      return directory;
    },
    remove,
    [Symbol.dispose]: remove,
  };
}
