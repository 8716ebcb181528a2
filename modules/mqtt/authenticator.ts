// Who a client is, and as which devices it may publish.

import { hashPassword, isLoopbackHost, verifyPassword, type Logger } from '#sdk';
import type { MqttConfig } from './config.ts';
import { PasswordMemory } from './password-memory.ts';

export interface Principal {
  /** Undefined for an anonymous client. */
  readonly username: string | undefined;
  mayPublishAs(device: string): boolean;
  /** Of those that may publish as every device: bridges and tools, which may send commands as well. */
  readonly everyDevice: boolean;
}

export interface Authenticator {
  /** Undefined when refused. @throws GatewayError GW_THROTTLED when too many wait for a check. */
  authenticate(login: Login): Promise<Principal | undefined>;
}

export interface Login {
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly remoteAddress: string;
}

const EVERYBODY: Principal = { username: undefined, mayPublishAs: () => true, everyDevice: true };

/**
 * A clear password is hashed before its first use and forgotten here; the clear text is then only in the loaded
 * configuration. Hashes are made when they are first needed, so that a thousand clients do not hold up the start.
 */
export function createAuthenticator(config: Pick<MqttConfig, 'anonymous' | 'clients'>, log: Logger): Authenticator {
  const memory = new PasswordMemory();
  const clients = new Map(
    config.clients.map(({ username, password, password_hash: encoded, devices = [username] }) => {
      const allowed = new Set(devices);
      const everyDevice = allowed.has('*');
      const principal: Principal = {
        username,
        mayPublishAs: (device) => everyDevice || allowed.has(device),
        everyDevice,
      };
      // In this process a keyed digest is as good as a slow hash, whose point is a file that was stolen.
      if (password !== undefined) memory.remember(username, password);
      return [username, { principal, encoded }] as const;
    }),
  );
  /** Takes as long for a name that does not exist as for one that does. */
  let decoy: Promise<string> | undefined;
  const known = [...clients.values()].some(({ encoded }) => encoded !== undefined);

  return {
    async authenticate({ username, password, remoteAddress }) {
      if (username === undefined) {
        const allowed =
          config.anonymous === 'all' || (config.anonymous === 'loopback' && isLoopbackPeer(remoteAddress));
        return allowed ? EVERYBODY : undefined;
      }
      if (password === undefined) return undefined;
      const client = clients.get(username);
      if (client !== undefined && memory.knows(username, password)) return client.principal;
      if (client?.encoded === undefined) {
        if (!known) return undefined;
        decoy ??= hashPassword('');
        await verifyPassword(password, await decoy);
        return undefined;
      }
      if (!(await verifyPassword(password, client.encoded))) return undefined;
      memory.remember(username, password);
      log.debug({ username }, 'A client gave its password for the first time since the start.');
      return client.principal;
    },
  };
}

function isLoopbackPeer(address: string): boolean {
  return isLoopbackHost(address.replace(/^::ffff:/, ''));
}
