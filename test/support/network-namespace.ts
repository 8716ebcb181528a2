// A network of a test's own, beside this one: what runs in it reaches this side by one cable, on which the test decides what passes.
// Needs root.

import { run } from './command.ts';

/** What becomes of connections to a port: nothing comes of them, or a reset. */
export type Block = 'drop' | 'reject';

export interface NetworkNamespace extends AsyncDisposable {
  /** This side of the cable. */
  readonly hostAddress: string;
  /** What to put before a command, so that it runs in there. */
  readonly through: readonly string[];
  /** Runs a program in there, to its end; resolves with what it wrote. */
  run(program: string, args: readonly string[]): Promise<string>;
  /** What is blocked from now on, by port: nothing else is. Connections that stand are no exception. */
  block(ports: Readonly<Record<number, Block>>): Promise<void>;
}

const VERDICTS = { drop: 'drop', reject: 'reject with tcp reset' } as const;

export async function createNetworkNamespace(): Promise<NetworkNamespace> {
  const name = `fieldpost-${process.pid}`;
  // Names of interfaces have at most 15 characters.
  const cable = `fp${process.pid}`;
  const network = `10.163.${process.pid % 256}`;
  const hostAddress = `${network}.1`;
  const through = ['ip', 'netns', 'exec', name];
  const ip = (text: string): Promise<string> => run('ip', text.split(' '));
  const inside = (program: string, args: readonly string[]): Promise<string> =>
    run('ip', [...through.slice(1), program, ...args]);
  const namespace: NetworkNamespace = {
    hostAddress,
    through,
    run: inside,
    async block(ports) {
      const rules = Object.entries(ports).map(([port, block]) => `tcp dport ${port} ${VERDICTS[block]}`);
      const chain = ['chain out {', 'type filter hook output priority 0', ...rules, '}'];
      // In one go; an empty table first, so that it can be deleted whether it was there or not.
      const lines = ['table inet test {', '}', 'delete table inet test', 'table inet test {', ...chain, '}', ''];
      await run('ip', [...through.slice(1), 'nft', '-f', '-'], lines.join('\n'));
    },
    // The cable goes with it.
    [Symbol.asyncDispose]: async () => void (await ip(`netns delete ${name}`)),
  };
  await ip(`netns add ${name}`);
  try {
    await ip(`link add ${cable} type veth peer name field netns ${name}`);
    await ip(`addr add ${hostAddress}/24 dev ${cable}`);
    await ip(`link set ${cable} up`);
    await inside('ip', ['link', 'set', 'lo', 'up']);
    await inside('ip', ['addr', 'add', `${network}.2/24`, 'dev', 'field']);
    await inside('ip', ['link', 'set', 'field', 'up']);
  } catch (error) {
    await namespace[Symbol.asyncDispose]();
    throw error;
  }
  return namespace;
}
