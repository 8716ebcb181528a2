// The configuration of an HTTP proxy on the way to an upstream, written the same way whatever the protocol behind it.

import { z } from 'zod';

export const httpProxySchema = z
  .strictObject({
    url: z
      .url({ protocol: /^http$/, error: 'must be a URL such as http://proxy.example:3128' })
      .meta({ title: 'URL', description: 'The HTTP proxy; it must allow CONNECT to the peer.' }),
    username: z.string().min(1).optional().meta({ title: 'User name', description: 'For Basic authentication.' }),
    password: z.string().optional().meta({ title: 'Password', description: 'For Basic authentication.', secret: true }),
  })
  .meta({ title: 'HTTP proxy', description: 'An HTTP proxy to reach the peer through, by the CONNECT method.' });

type HttpProxyConfig = z.output<typeof httpProxySchema>;

/** What is wrong with it that the schema cannot express. */
export function httpProxyFault({ url }: HttpProxyConfig): string | undefined {
  return new URL(url).username === '' ? undefined : 'must not hold credentials; use `username` and `password`';
}

/** Host, port (default 80) and credentials, as a dial takes them. */
export function httpProxyAddress({ url, username, password }: HttpProxyConfig): {
  readonly host: string;
  readonly port: number;
  readonly username?: string;
  readonly password?: string;
} {
  const { hostname, port } = new URL(url);
  return {
    host: hostname.replace(/^\[|\]$/g, ''),
    port: port === '' ? 80 : Number(port),
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
  };
}
