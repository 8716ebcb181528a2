// What `web:` of the configuration means to this module. The section belongs to the gateway, whose schema has its
// defaults and checks.

export interface WebServerConfig {
  /** Address to listen on; off loopback every request needs the token. */
  readonly address: string;
  readonly port: number;
}
