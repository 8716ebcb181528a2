// A link of the benches' own: both ends stand in this machine, the far one in a namespace with whom the gateway talks to. One bench
// at a time has it.

import { run } from '../support/command.ts';

export const FAR_ADDRESS = '10.255.80.2';
const NAMESPACE = 'fpbench';
/** Put before a program, runs it at the far end. */
export const IN_FAR_NAMESPACE = ['ip', 'netns', 'exec', NAMESPACE] as const;
const [NEAR, FAR] = ['fpbench0', 'fpbench1'];
const NEAR_ADDRESS = '10.255.80.1';
const NOBODY = '02:00:00:00:80:99';

export interface FarLink extends AsyncDisposable {
  /** The frames of this side go to a hardware address that nobody has: neither side is told that the other is away. */
  cut(): Promise<unknown>;
  mend(): Promise<unknown>;
}

export async function createLink(): Promise<FarLink> {
  const ip = (...args: string[]): Promise<string> => run('ip', args);
  await ip('netns', 'add', NAMESPACE);
  const remove = async (): Promise<void> => {
    // A namespace lives on while a process is in it, and the link with it.
    await ip('link', 'delete', NEAR).catch(() => {});
    await ip('netns', 'delete', NAMESPACE);
  };
  try {
    await ip('link', 'add', NEAR, 'type', 'veth', 'peer', 'name', FAR, 'netns', NAMESPACE);
    await ip('address', 'add', `${NEAR_ADDRESS}/30`, 'dev', NEAR);
    await ip('link', 'set', NEAR, 'up');
    await ip('-n', NAMESPACE, 'address', 'add', `${FAR_ADDRESS}/30`, 'dev', FAR);
    await ip('-n', NAMESPACE, 'link', 'set', FAR, 'up');
  } catch (error) {
    await remove();
    throw error;
  }
  return {
    cut: () => ip('neighbour', 'replace', FAR_ADDRESS, 'lladdr', NOBODY, 'dev', NEAR, 'nud', 'permanent'),
    mend: () => ip('neighbour', 'delete', FAR_ADDRESS, 'dev', NEAR),
    [Symbol.asyncDispose]: remove,
  };
}
