// Secrets that parts were given by others, in the state store, sealed under the master key.

import type { SecretShelf } from '../core/secret-shelf.ts';
import type { StateSpace } from '../core/state.ts';
import type { Sealer, SealerOptions } from '../platform/sealing.ts';

/**
 * A shelf for each owner. The master key is opened at the first use: a gateway without such secrets needs none.
 * @param owner tells the secrets of parts apart.
 */
export function createSecretShelves(space: StateSpace, options: SealerOptions): (owner: string) => SecretShelf {
  let sealer: Promise<Sealer> | undefined;
  const open = async (): Promise<Sealer> => {
    const opening = (sealer ??= import('../platform/sealing.ts').then(({ openSealer }) => openSealer(options)));
    try {
      return await opening;
    } catch (error) {
      sealer = undefined;
      throw error;
    }
  };
  return (owner) => {
    const keyOf = (name: string): string => `${owner}/${name}`;
    return {
      async get(name) {
        const sealed = await space.get(keyOf(name));
        return sealed === undefined ? undefined : (await open()).unseal(Buffer.from(sealed).toString(), keyOf(name));
      },
      async put(name, secret) {
        const sealed = (await open()).seal(secret, keyOf(name));
        await space.write([{ key: keyOf(name), value: Buffer.from(sealed) }]);
      },
    };
  };
}
