// Answers one request at the port it is given, and ends.
const express = require("express");

const application = express();
const server = application.listen(Number(process.argv[2]), "127.0.0.1");
application.get("/", (request, response) => {
  response.set("connection", "close").send("ready\n");
  server.close();
});
