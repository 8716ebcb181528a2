// The web server as a module of the gateway. It is not named in the catalogue of types: there is one, under `web:`.

export { createWebServer, type WebServer, type WebServerOptions } from './server/web-server.ts';
