// The local hub over HTTPS: devices send and fetch messages, back ends manage identities, twins and methods.

import type { HeadDefinition } from '#sdk';

export const hubHttps: HeadDefinition = {
  kind: 'head',
  type: 'https',
  load: async () => (await import('./head.ts')).createHttpsHead,
};
