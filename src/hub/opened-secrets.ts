// Secrets that were opened lately. Opening one takes six microseconds and leaves several objects outside the heap behind, which is
// most of what a page of a thousand identities costs; the same page is asked for again and again.

import type { Sealer } from '../platform/sealing.ts';

interface Opened {
  readonly sealed: string;
  readonly secret: string;
}

/** The sealer, which remembers the last `most` secrets that it opened, each under its context. */
export function rememberOpened(sealer: Sealer, most: number): Sealer {
  const opened = new Map<string, Opened>();
  return {
    keyId: sealer.keyId,
    seal: (secret, context) => sealer.seal(secret, context),
    unseal(sealed, context) {
      const known = opened.get(context);
      if (known?.sealed === sealed) return known.secret;
      const secret = sealer.unseal(sealed, context);
      opened.delete(context);
      opened.set(context, { sealed, secret });
      if (opened.size > most) {
        const oldest = opened.keys().next();
        if (oldest.done !== true) opened.delete(oldest.value);
      }
      return secret;
    },
  };
}
