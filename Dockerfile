# varve without root, with the Deno permissions that it needs: the network (source and store may be anywhere), the
# environment, one directory, and its own source for its other thread. Nothing else on the disk can be read, no program
# can be run.
#
#   docker build -t varve .
#   docker run --rm varve follow --source postgres://… --store s3://…
FROM denoland/deno:2.9.6

# For `--store file:///var/lib/varve`, and for `--cache /var/lib/varve/cache`.
RUN install -d -o deno -g deno /var/lib/varve
VOLUME /var/lib/varve

USER deno
WORKDIR /app
COPY deno.json deno.lock mod.ts LICENSE ./
COPY src ./src
# Packages as deno.lock has them; from here on no registry is asked for anything.
RUN deno cache --frozen src/cli/main.ts

EXPOSE 9898
# /run/secrets holds what --source-file and --listen-token-file name.
ENTRYPOINT ["deno", "run", "--cached-only", "--no-prompt", "--allow-net", "--allow-env", "--allow-read=/var/lib/varve,/run/secrets,/app/src", "--allow-write=/var/lib/varve", "/app/src/cli/main.ts"]
CMD ["--help"]
