// The rig itself: an SDK in a child process finds the hub of this test by its name, and says what the SDK said.

import { once } from 'node:events';
import { createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import { deviceConnectionString, HTTPS_PORT, startHubDaemon } from '../support/hub-daemon.ts';
import { startDevice } from '../support/sdk-child.ts';
import { createTempDir } from '../support/temp-dir.ts';

const ADDRESS = '127.0.99.2';
const KEY = Buffer.alloc(32, 7).toString('base64');

describe('the rig of the SDKs', () => {
  it("leads the hub's name to the address of the test, for its child alone", async () => {
    using directory = createTempDir('hub-rig');
    await using daemon = await startHubDaemon({ address: ADDRESS, directory, ports: [] });
    expect(daemon.authority).toContain('BEGIN CERTIFICATE');
    // Another address than the daemon's: nobody else listens there.
    const decoy = createServer((socket) => socket.destroy()).listen(HTTPS_PORT, '127.0.99.3');
    await once(decoy, 'listening');
    const reached = once(decoy, 'connection');
    await using device = startDevice({ hub: { address: '127.0.99.3', authorityPath: daemon.authorityPath } });
    await device.call('open', deviceConnectionString('d1', KEY), 'http');
    await device.call('neverRetry');
    await expect(device.call('send', { body: 'x' })).rejects.toMatchObject({
      name: expect.stringMatching(/Error$/) as unknown,
    });
    await reached;
    decoy.close();
  });
});
