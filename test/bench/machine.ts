// Where figures come from; without it they say nothing.

import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { run } from '../support/command.ts';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryMb: number;
  readonly kernel: string;
  readonly system: string;
  readonly node: string;
  /** Of the directory for temporary files. */
  readonly fileSystem: string;
  readonly commit: string;
  /** ISO 8601, UTC. */
  readonly date: string;
  /** Load over the last minute when the run began. */
  readonly load: number;
}

export async function describeMachine(repository: string, directory: string): Promise<Machine> {
  const [fileSystem, head, changes] = await Promise.all([
    run('findmnt', ['--noheadings', '--output', 'FSTYPE,SOURCE', '--target', directory]),
    run('git', ['-C', repository, 'rev-parse', '--short', 'HEAD']),
    run('git', ['-C', repository, 'status', '--porcelain', '--untracked-files=no']),
  ]);
  const processors = cpus();
  return {
    cpu: processors[0]?.model ?? 'unknown',
    cores: processors.length,
    memoryMb: Math.round(totalmem() / 1e6),
    kernel: release(),
    system: /^PRETTY_NAME="(.+)"$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'unknown',
    node: process.version,
    fileSystem: fileSystem.trim().replace(/\s+/g, ' on '),
    commit: changes.trim() === '' ? head.trim() : `${head.trim()} with changes`,
    date: new Date().toISOString().slice(0, 16).replace('T', ' ') + ' UTC',
    load: loadavg()[0] ?? 0,
  };
}
