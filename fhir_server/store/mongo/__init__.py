"""The store on a MongoDB replica set."""
