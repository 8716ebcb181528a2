// What a power cut leaves of a directory, told from the journal of test/support/disk-shim.c after the process was killed.
//
// Promised by the system (fsync(2)): the content of a file up to its last sync, and the names of a directory up to its
// last sync. Everything else may be there, be missing, or be there in part: a new file of the right length full of zeros, a
// tail cut off in the middle of a record, the first few of several renames. Which of it, the caller's random source says.

import { copyFileSync, lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** What happens to that which was not synced. */
export type Fate = 'lost' | 'kept' | 'partly';

export interface PowerCutOptions {
  /** The directory as the killed process left it. */
  readonly root: string;
  /** The shim's work directory. */
  readonly image: string;
  /** State of the directory before the process started, from `readDisk`. */
  readonly before: Disk;
  /** Where the directory is rebuilt; must not exist. */
  readonly target: string;
  /** Of file contents beyond the last sync. `partly` chooses for each file: a prefix, zeros, or noise at the end. */
  readonly contents: Fate;
  /** Of names beyond the last sync of their directory. `partly`: a prefix of the changes. */
  readonly names: Fate;
  /** At least 0, below 1. */
  readonly random: () => number;
}

export interface PowerCutReport {
  readonly files: number;
  /** Bytes of files with a durable name that were not synced and did not survive. */
  readonly bytesDropped: number;
  /** Changes of names that did not survive. */
  readonly namesDropped: number;
}

interface Content {
  /** Durable length. */
  length: number;
  /** Where durable zeros begin that were there to be written over; the length when there are none. */
  dataEnd: number;
  /** A copy that holds the durable content; undefined: the file itself. */
  copy: string | undefined;
  /** Changed in a way that the shim does not follow. */
  inPlace: boolean;
}

type Names = Map<string, string>;

/** The durable state of a directory tree. Files and directories go by inode number, prefixed with `f` or `d`. */
export interface Disk {
  readonly rootId: string;
  readonly directories: Map<string, Names>;
  readonly contents: Map<string, Content>;
}

/** Takes everything that is in `root` now as durable. */
export function readDisk(root: string): Disk {
  const disk: Disk = { rootId: `d${lstatSync(root).ino}`, directories: new Map(), contents: new Map() };
  const walk = (path: string, id: string): void => {
    const names: Names = new Map();
    disk.directories.set(id, names);
    for (const name of readdirSync(path)) {
      const status = lstatSync(join(path, name));
      const child = `${status.isDirectory() ? 'd' : 'f'}${status.ino}`;
      names.set(name, child);
      if (status.isDirectory()) walk(join(path, name), child);
      else
        disk.contents.set(child, {
          length: status.size,
          dataEnd: status.size,
          copy: undefined,
          inPlace: false,
        });
    }
  };
  walk(root, disk.rootId);
  return disk;
}

interface NameChange {
  readonly directories: readonly string[];
  apply(disk: Disk): void;
}

/** Rebuilds in `target` what the power cut leaves. */
export function cutPower(options: PowerCutOptions): PowerCutReport {
  const { disk, pending } = replay(options);
  const kept =
    options.names === 'kept'
      ? pending.length
      : options.names === 'lost'
        ? 0
        : Math.floor(options.random() * (pending.length + 1));
  for (const change of pending.slice(0, kept)) change.apply(disk);
  const sources = findSources(options.root, options.image);
  const report = { files: 0, bytesDropped: 0, namesDropped: pending.length - kept };
  const build = (id: string, path: string): void => {
    mkdirSync(path, { recursive: true });
    for (const [name, child] of disk.directories.get(id) ?? []) {
      if (child.startsWith('d')) build(child, join(path, name));
      else {
        report.files += 1;
        report.bytesDropped += writeContent(child, join(path, name), disk, sources, options);
      }
    }
  };
  build(disk.rootId, options.target);
  return report;
}

function replay(options: PowerCutOptions): { disk: Disk; pending: NameChange[] } {
  const disk = options.before;
  let pending: NameChange[] = [];
  const content = (ino: string): Content => {
    const id = `f${ino}`;
    let found = disk.contents.get(id);
    if (found === undefined)
      disk.contents.set(id, (found = { length: 0, dataEnd: 0, copy: undefined, inPlace: false }));
    return found;
  };
  for (const line of readFileSync(join(options.image, 'journal'), 'utf8').split('\n')) {
    const [kind = '', ...fields] = line.split('\t');
    const [a = '', b = '', c = '', d = ''] = fields;
    switch (kind) {
      case 'F':
        disk.contents.set(`f${a}`, { length: Number(b), dataEnd: Number(c), copy: undefined, inPlace: false });
        break;
      case 'T':
        // Only the durable part of the copy counts; what follows it was pending before and is pending now.
        if (content(a).copy === undefined) content(a).copy = join(options.image, 'copies', b);
        break;
      case 'X':
        content(a).inPlace = true;
        break;
      case 'D':
        for (const change of pending) if (change.directories.includes(`d${a}`)) change.apply(disk);
        pending = pending.filter((change) => !change.directories.includes(`d${a}`));
        break;
      case 'C':
        pending.push(creation(`d${a}`, b, `${d}${c}`));
        break;
      case 'U':
        pending.push({ directories: [`d${a}`], apply: (disk) => disk.directories.get(`d${a}`)?.delete(b) });
        break;
      case 'R':
        pending.push(renaming(`d${a}`, b, `d${c}`, d));
        break;
      default:
        if (line !== '') throw new Error(`The journal has a line that nobody writes: ${line}`);
    }
  }
  return { disk, pending };
}

function creation(directory: string, name: string, id: string): NameChange {
  return {
    directories: [directory],
    apply(disk) {
      // A parent whose own name did not survive takes its entries along.
      disk.directories.get(directory)?.set(name, id);
      if (id.startsWith('d') && !disk.directories.has(id)) disk.directories.set(id, new Map());
    },
  };
}

function renaming(from: string, fromName: string, to: string, toName: string): NameChange {
  return {
    directories: [from, to],
    apply(disk) {
      const id = disk.directories.get(from)?.get(fromName);
      if (id === undefined) return;
      disk.directories.get(from)?.delete(fromName);
      disk.directories.get(to)?.set(toName, id);
    },
  };
}

/** Where the bytes of each inode are now: in the directory, or in a grave. */
function findSources(root: string, image: string): Map<string, string> {
  const sources = new Map<string, string>();
  const walk = (directory: string): void => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) walk(path);
      else sources.set(`f${lstatSync(path).ino}`, path);
    }
  };
  walk(root);
  walk(join(image, 'graves'));
  return sources;
}

/** Returns how many bytes were there and are not any more. */
function writeContent(
  id: string,
  path: string,
  disk: Disk,
  sources: Map<string, string>,
  options: PowerCutOptions,
): number {
  const content = disk.contents.get(id) ?? { length: 0, dataEnd: 0, copy: undefined, inPlace: false };
  const source = content.copy ?? sources.get(id);
  if (source === undefined) throw new Error(`The bytes of ${path} are nowhere: a fault of this rig.`);
  if (content.inPlace && options.contents !== 'kept') {
    throw new Error(`${path} was changed in place and not synced since; this rig cannot tell what a power cut leaves.`);
  }
  copyFileSync(source, path);
  const size = lstatSync(path).size;
  if (content.dataEnd >= size || options.contents === 'kept') return 0;
  const { kept, rest } =
    options.contents === 'lost' ? ({ kept: 0, rest: 'cut' } as const) : tear(size - content.dataEnd, options.random);
  const bytes = readFileSync(path);
  const from = content.dataEnd + kept;
  if (rest === 'noise')
    for (let index = from; index < size; index += 1) bytes[index] = Math.floor(options.random() * 256);
  else bytes.fill(0, from);
  // The durable length stays; what was to be written over is then as it was.
  writeFileSync(path, rest === 'cut' ? bytes.subarray(0, Math.max(from, content.length)) : bytes);
  return size - from;
}

/** What is left of a tail that was not synced: how many bytes, and what stands behind them. */
function tear(tail: number, random: () => number): { kept: number; rest: 'cut' | 'zeros' | 'noise' } {
  const kind = Math.floor(random() * 4);
  const kept = Math.floor(random() * (tail + 1));
  if (kind === 0) return { kept: tail, rest: 'cut' };
  // The length was written, the blocks were not (ext4, delayed allocation): zeros, or what the blocks held before.
  return { kept, rest: (['cut', 'zeros', 'noise'] as const)[kind - 1] ?? 'cut' };
}
